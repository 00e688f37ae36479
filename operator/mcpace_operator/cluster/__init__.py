"""The API server: the one client, what watching and reading again tell, who leads. kopf stays in `kopf`."""
