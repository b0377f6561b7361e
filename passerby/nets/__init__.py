"""Networks: image-text towers, backbones, and how pixels get into them."""
