"""The segmenter's training: recipes, heads to show it, validation across styles, and the export of a bundle."""
