"""Text-to-video retrieval (AVR): find the video that a sentence describes."""
