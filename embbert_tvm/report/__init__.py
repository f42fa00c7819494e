"""What a user is shown of a result."""
