"""Text-to-video retrieval (AVR): the video that a sentence is about, among all."""
