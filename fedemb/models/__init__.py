"""Image to embedding backbones."""
