"""The study on real images: its data, its claims, and the page that tells what came out."""
