"""What the processes tell of themselves: logs."""
