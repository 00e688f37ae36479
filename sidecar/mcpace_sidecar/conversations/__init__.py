"""Calls that wait for their client: what a server asked, who may go on with it, in memory and in Redis."""
