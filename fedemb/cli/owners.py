"""What is said of data in which several users own an image."""

from __future__ import annotations


def for_ids(images: str, most_owners: int) -> str:
    """One line. images: its start, e.g. "3 images have". most_owners: the most users that own one of them."""
    return (
        f"{images} up to {most_owners} owners: the guarantee is for a user id; "
        f"ids_per_user={most_owners} covers the images' owners"
    )
