"""Data sets on disk, read with suspicion: exams of multiple-choice questions, and text to calibrate with."""
