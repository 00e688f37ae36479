"""What has been answered before: rules and keys, identical calls in flight, and where results are kept."""
