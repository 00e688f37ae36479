"""What people ask of running servers, with their own rights: `top`, `limits`, `cache`, `logs`, `check`."""
