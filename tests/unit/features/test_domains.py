"""The wall clock of a zone: that of Polars to the microsecond, whatever the machine knows of time zones."""

from __future__ import annotations

import datetime as dt

import numpy as np
import polars as pl
import pytest

from mlsys.features import domains

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


# What Stockholm and Accra did before 1970, and EET and WET before 1997, is told differently on different machines;
# Samoa left out a day, Nepal and Lord Howe do not count in whole hours, Alaska changed its date.
ZONES = """Europe/Stockholm Africa/Accra EET WET Pacific/Apia Asia/Kathmandu Australia/Lord_Howe America/Juneau
 America/New_York Africa/Casablanca Etc/GMT+5""".split()


@pytest.mark.parametrize("zone", ZONES)
def test_one_time_reads_as_it_does_in_a_column(zone):
    changes, _ = domains._changes(zone)
    near = (changes[:, np.newaxis] + np.array([-1, 0, 1])).ravel()
    drawn = np.random.default_rng(0).integers(-62_135_000_000, domains.LAST, 500)
    seconds = np.unique(np.concatenate([near, drawn]))
    utc = pl.Series(seconds * 1_000_000 + 7).cast(pl.Datetime("us", "UTC"))
    column = utc.dt.convert_time_zone(zone).dt.replace_time_zone(None).to_list()
    clock = domains.clock_of(zone).local
    assert [clock(EPOCH + dt.timedelta(seconds=int(at), microseconds=7)) for at in seconds] == column


@pytest.mark.parametrize(
    ("zone", "utc", "local"),
    [
        ("America/New_York", "2013-03-10T06:59:59", "2013-03-10T01:59:59"),
        ("America/New_York", "2013-03-10T07:00:00", "2013-03-10T03:00:00"),
        ("America/New_York", "2013-11-03T06:00:00", "2013-11-03T01:00:00"),
        ("Pacific/Apia", "2011-12-30T09:59:59", "2011-12-29T23:59:59"),
        ("Pacific/Apia", "2011-12-30T10:00:00", "2011-12-31T00:00:00"),
        ("Asia/Kathmandu", "2099-12-31T00:00:00", "2099-12-31T05:45:00"),
    ],
)
def test_clocks_show_what_newspapers_said(zone, utc, local):
    time = dt.datetime.fromisoformat(utc).replace(tzinfo=dt.UTC)
    assert domains.clock_of(zone).local(time) == dt.datetime.fromisoformat(local)


def test_a_clock_does_not_leave_the_calendar():
    with pytest.raises(OverflowError):
        domains.clock_of("America/New_York").local(dt.datetime(1, 1, 1, 2, tzinfo=dt.UTC))


@pytest.mark.parametrize("zone", ZONES)
def test_what_a_clock_shows_is_dated_as_a_column_is_at_collection(zone):
    starts, offsets = domains._changes(zone)
    shown = (starts[:, np.newaxis] + np.stack([offsets[:-1], offsets[1:]], axis=1)).ravel()
    near = (shown[:, np.newaxis] + np.array([-1800, -1, 0, 1, 1800])).ravel()
    drawn = np.random.default_rng(0).integers(-62_135_000_000, domains.LAST, 500)
    local = pl.Series(np.unique(np.concatenate([near, drawn])) * 1_000_000).cast(pl.Datetime("us"))
    aware = local.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null").dt.convert_time_zone("UTC")
    clock = domains.clock_of(zone)

    def dated(time):
        try:
            return clock.utc(time)
        except ValueError:
            return None

    assert [dated(time) for time in local.to_list()] == aware.to_list()
