"""Images: decoding, preprocessing, perceptual hashes."""
