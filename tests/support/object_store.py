"""An object store on this machine: moto's S3 server, which answers over HTTP as S3 does."""

import contextlib
import logging
import os

BUCKET = "s3://data"


@contextlib.contextmanager
def running():
    """A server with one bucket, and the environment in which every client of S3 finds it: pyarrow, Polars, boto3."""
    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        os.environ |= {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "id",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        boto3.client("s3").create_bucket(Bucket=BUCKET.partition("://")[2])
        yield BUCKET
    finally:
        server.stop()
