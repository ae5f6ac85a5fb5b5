"""Audio-visual question answering (AVQA): one of the answers that training knows, to a question about a video."""
