"""The container images that are made here, of programs that are here: for hosts that reach no registry."""

from hardway.binaries.images.recipes import RECIPES, SUFFIX, bring, is_image, programs

__all__ = ["RECIPES", "SUFFIX", "bring", "is_image", "programs"]
