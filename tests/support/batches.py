"""Parts of a batch prediction for tests that look at its tasks."""

from mlsys import bundle
from mlsys.deploy import batch_runs
from mlsys.deploy.batch_job import BatchJob, NumberedFragment
from mlsys.deploy.batch_staging import StagedFolder
from mlsys.recipe import ReadOptions


def job_of(store, entry, fragments, folder, keys=()):
    """A job that writes into a folder, and its fragments: the arguments of `batch_worker.predict_fragments`."""
    options = ReadOptions()
    run = batch_runs.of(store, bundle.open(store, entry.digest), entry, keys, options, fragments)
    job = BatchJob(store.root, StagedFolder(str(folder)), entry, keys, options, run)
    return job, list(map(NumberedFragment, range(len(fragments)), fragments, run.fragments))
