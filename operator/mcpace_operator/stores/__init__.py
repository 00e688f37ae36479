"""The two stores that servers share: whether they answer, and a user and a share for each server."""
