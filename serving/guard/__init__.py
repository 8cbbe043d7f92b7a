"""Whether a version on trial must go back, may go further, or has yet to show it."""
