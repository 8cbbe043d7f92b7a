"""What looks on while requests are answered. It never holds one up, and what fails here fails no request."""
