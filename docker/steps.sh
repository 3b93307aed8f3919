#!/bin/sh
# The steps that connect the parts, one function each. The compose file and the end-to-end test run the same ones:
#   sh docker/steps.sh STEP...
# They are configured by the environment, including secrets (docker/example.env lists the variables).
set -eu

here="$(cd "$(dirname "$0")/.." && pwd)"
pool="${WORK_POOL:-moderation}"
deployment="${DEMO_DEPLOYMENT:-moderate/nightly}"
images="${DEMO_IMAGES:-s3://uploads/demo}"
results="${DEMO_RESULTS:-s3://moderation/results}"

# Waits until Prefect's server answers, two minutes at most.
wait_for_prefect() {
    python - <<'PYTHON'
import os, sys, time, urllib.request

url = os.environ["PREFECT_API_URL"].rstrip("/") + "/health"
for _ in range(120):
    try:
        urllib.request.urlopen(url, timeout=5)
        sys.exit()
    except OSError as error:
        last = error
        time.sleep(1)
sys.exit(f"Prefect does not answer at {url}: {last}")
PYTHON
}

# Creates the pool that the deployments name, unless it exists.
create_work_pool() {
    prefect --no-prompt work-pool inspect "$pool" > /dev/null 2>&1 ||
        prefect --no-prompt work-pool create "$pool" --type process
}

# Sends prefect.yaml's deployments to the server, and sets up its automations: `moderate deploy` without its checks, which
# belong on the machine that starts runs. This one may have no bucket keys and no connection to Ray.
deploy() {
    cd "$here"
    prefect --no-prompt deploy --all
    python - <<'PYTHON'
from pathlib import Path

from flows.automations import set_up
from moderation.deployment.file import read_deployments

print("automations:", *set_up(read_deployments(Path("prefect.yaml")).notify), sep="\n  ")
PYTHON
}

# Creates the buckets of the demo, unless they exist, and puts the bundled images into the first.
upload_demo_images() {
    python - "$images" "$results" <<'PYTHON'
import sys

import boto3

from moderation.demo import IMAGES_DIR

client = boto3.client("s3")
present = {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}
places = [uri.removeprefix("s3://").partition("/") for uri in sys.argv[1:]]
for bucket in {bucket for bucket, _, _ in places} - present:
    client.create_bucket(Bucket=bucket)
bucket, _, prefix = places[0]
files = sorted(path for path in IMAGES_DIR.rglob("*") if path.is_file())
for path in files:
    client.upload_file(str(path), bucket, f"{prefix}/{path.relative_to(IMAGES_DIR).as_posix()}")
print(f"{len(files)} images under {sys.argv[1]}")
PYTHON
}

# Starts a run of the demo images through the deployment and waits; fails if the run does.
run_demo() {
    policy="$(python -c 'from moderation.demo import POLICY_FILE; print(POLICY_FILE)')"
    prefect --no-prompt deployment run "$deployment" --watch --watch-interval 5 --param "settings={
        \"sources\": [\"$images\"], \"policy\": \"$policy\", \"output\": \"$results\",
        \"device\": \"${DEMO_DEVICE:-auto}\", \"batch_size\": 32}"
    moderate runs list --results "$results"
}

# Joins the Ray cluster at RAY_ADDRESS as a machine that runs no tasks: a flow needs a Ray node on its machine.
join_ray() {
    ray start --address "$RAY_ADDRESS" --num-cpus 0 --num-gpus 0 --disable-usage-stats
}

# Runs the pool's flow runs, until it is stopped.
work() {
    cd "$here"
    exec prefect --no-prompt worker start --pool "$pool" --type process --with-healthcheck
}

for step in "$@"; do
    "$step"
done
