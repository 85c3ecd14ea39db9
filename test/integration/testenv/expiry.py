"""What Upload-Expires should say, and uploads that are older than they are."""
import os
import re
import time
from email.utils import parsedate_to_datetime

IMF_FIXDATE = re.compile(
    r'(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) \d{4} '
    r'\d\d:\d\d:\d\d GMT')

HOUR = 3600


def expires(answer):
    """Upload-Expires of an answer that must have one, in seconds since 1970."""
    value = answer.get('Upload-Expires')
    assert value and IMF_FIXDATE.fullmatch(value), answer
    return parsedate_to_datetime(value).timestamp()


def modified(tus, url):
    """When the bytes of an upload last changed."""
    return tus.store.data_path(url).stat().st_mtime


def assert_expires(tus, url, answer, duration):
    """It says the data's time and the duration, in whole seconds."""
    assert abs(expires(answer) - modified(tus, url) - duration) <= 1, answer


def backdate(tus, url, seconds):
    """As if the last byte had come so long ago."""
    when = time.time() - seconds
    os.utime(tus.store.data_path(url), (when, when))
