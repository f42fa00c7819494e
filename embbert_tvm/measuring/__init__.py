"""What reports show of packages and models: measured here, rendered by report/."""
