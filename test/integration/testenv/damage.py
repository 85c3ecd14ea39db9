"""What is done to a file behind the server's back."""
import os


def emptied(path):
    os.truncate(path, 0)


def cut(path):
    os.truncate(path, path.stat().st_size // 2)


def removed(path):
    path.unlink()
