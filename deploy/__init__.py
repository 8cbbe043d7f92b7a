"""What is needed to run tidegate elsewhere than in a checkout."""
