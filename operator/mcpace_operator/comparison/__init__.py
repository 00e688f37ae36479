"""Whether a child is as it should be, what others added to it, and who keeps changing it. Pure."""
