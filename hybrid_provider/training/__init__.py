"""From a training spec to an artifact: the exactly-once life of a job."""
