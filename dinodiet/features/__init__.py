"""What a frozen network makes of images, computed once: embeddings and trunk outputs."""
