"""The parts of a manifest that concern the pods and what stands around them, one noun a file."""
