"""The benchmarks against what people use today: nginx in S3's place, ratios and rates, and that all sides do the same work."""

import shutil
import socket
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from needs import needs_nginx, require
from PIL import Image
from support import save_tiny_clip

from benchmarks import against_peers, get, nginx
from benchmarks.against_peers import PIPELINE, PLAIN, Case, Found
from benchmarks.peers import ours, plain
from benchmarks.peers.timeline import Timeline, agreement
from benchmarks.peers.work import Work, policy_text
from moderation.errors import ErrorCode, RunError, SettingsError, StorageError
from moderation.model.open_clip_encoder import OpenClipEncoder
from moderation.policy_files.loading import parse_policy
from moderation.scoring.image_scorer import ImageScorer
from moderation.storage import Store


def timeline(scored_at, names=("a", "b"), embeddings=((1.0, 0.0), (0.0, 1.0)), began=0.0):
    return Timeline(began, np.array(scored_at), tuple(names), np.array(embeddings, np.float32))


@pytest.fixture
def photos(tmp_path, demo_images):
    """A folder of six pictures that lie as they are stored: the plain loop knows nothing of EXIF orientation."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for file in sorted((demo_images / "listings").glob("48*.jpg"))[:7]:
        with Image.open(file) as picture:
            if not picture.getexif():
                shutil.copy(file, folder)
    return tuple(sorted(folder.iterdir()))


@pytest.fixture
def bucket(tmp_path):
    """nginx over a bucket `things` with one object, and its endpoint, where all clients of S3 go meanwhile."""
    require(needs_nginx)
    (tmp_path / "things").mkdir()
    (tmp_path / "things" / "a b.jpg").write_bytes(b"0123456789")
    with nginx.nginx(tmp_path) as endpoint, nginx.s3_from(endpoint):
        yield endpoint, tmp_path / "things" / "a b.jpg"


def test_nginx_serves_a_folder_as_buckets(bucket):
    endpoint, path = bucket
    assert endpoint.startswith("http://127.0.0.1:")
    store = Store("s3://things", connections=2)
    found = store.head("a b.jpg")
    assert (found.etag, found.size) == (nginx.etag(path), 10)
    assert store.read(found) == b"0123456789"
    with store.open("a b.jpg", found.etag) as file:
        file.seek(2)
        assert file.read(3) == b"234"


def test_nginx_honours_if_match(bucket):
    store = Store("s3://things", connections=3)
    with pytest.raises(StorageError) as caught:
        store.get("a b.jpg", "0-0")
    assert caught.value.code is ErrorCode.CHANGED
    with pytest.raises(StorageError) as caught:
        store.get("none.jpg")
    assert caught.value.code is ErrorCode.NOT_FOUND


@needs_nginx
def test_nginx_is_gone_afterwards_and_so_are_the_settings(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://before")
    with nginx.nginx(tmp_path) as endpoint, nginx.s3_from(endpoint):
        port = int(endpoint.rpartition(":")[2])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 1)
    assert nginx.os.environ["AWS_ENDPOINT_URL"] == "http://before"


def test_without_nginx_one_is_told_what_to_install(monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(nginx, "PLACES", "")
    with pytest.raises(SettingsError, match=r"nginx.*is not installed: apt-get install"):
        nginx.find_nginx()
    get.main()
    figure = capsys.readouterr().out
    assert '"get_vs_boto3"' in figure
    assert '"value": null' in figure
    assert "not installed" in figure


def test_a_folder_that_nginx_could_misread_is_refused(tmp_path):
    folder = tmp_path / 'a";b'
    folder.mkdir()
    with pytest.raises(SettingsError, match="choose a folder without quotes"), nginx.nginx(folder):
        pass


@needs_nginx
def test_every_client_fetches_all_bytes(tmp_path):
    refs = get.write_objects(tmp_path, 6, 1000)
    with nginx.nginx(tmp_path) as endpoint, nginx.s3_from(endpoint):
        clients = get.clients(endpoint)
        found = get.measure(refs, clients, rounds=1)
        figures = {figure.name: figure for figure in get.figures(found)}
        with pytest.raises(ValueError, match="bytes"):
            get.measure([refs[0]._replace(size=999)], clients[-1:], rounds=1)
    ratio = figures["get_vs_boto3"]
    assert ratio.target == 8
    assert ratio.value == pytest.approx(figures["get_per_s_store"].value / figures["get_per_s_boto3"].value)


def test_the_steady_state_leaves_out_both_ends():
    # Ten batches of four images: the first three slow, then one every second, the last one late.
    ends = [10, 20, 30, 31, 32, 33, 34, 35, 36, 100]
    run = timeline([end for end in ends for _ in range(4)], began=4.0)
    assert run.first_s == 6.0
    assert run.rate == pytest.approx(4.0)
    with pytest.raises(ValueError, match="2 batches are too few"):
        _ = timeline([1.0] * 4 + [2.0] * 4).rate


def test_runs_are_compared_by_the_files_that_both_have_seen():
    one = timeline([1, 2, 3], "abc", ((1, 0), (0, 2), (3, 0)))
    assert agreement(one, timeline([1, 2], "bc", ((0, 1), (1, 0)))) == pytest.approx(1.0)
    assert agreement(one, timeline([1, 2], "bc", ((1, 1), (1, 0)))) == pytest.approx(2**-0.5)
    with pytest.raises(ValueError, match="no file in common"):
        agreement(one, timeline([1], "z", ((1, 0),)))


def run_at(rate, embeddings=((1.0, 0.0), (0.0, 1.0))):
    return timeline([n / rate for n in range(1, 41)], embeddings=embeddings)


def test_ratios_are_taken_within_a_round_and_against_the_fastest_peer():
    found = Found()
    for plain_rate, slow, fast, own in ((1, 2, 3, 12), (2, None, 5, 10), (1, None, 4, 4)):
        found.rounds.append({})
        for side, rate in ((PLAIN, plain_rate), ("slow", slow), ("fast", fast), (PIPELINE, own)):
            if rate:
                found.add(side, run_at(rate))
    assert found.peers == ["fast", "slow"]
    assert found.ratios(*found.peers) == pytest.approx([4, 2, 1])
    assert found.ratios(PLAIN) == pytest.approx([12, 5, 4])
    case = Case("tiny", (8, 8), 1, {}, promised=("vs_ray_data_tiny", 2))
    figures = {figure.name: figure for figure in against_peers.figures(case, found)}
    ratio = figures["vs_ray_data_tiny"]
    assert (ratio.value, ratio.min, ratio.max, ratio.runs, ratio.target) == (
        pytest.approx(2),
        pytest.approx(1),
        pytest.approx(4),
        3,
        2,
    )
    assert figures["slow_images_per_s_tiny"].runs == 1


def test_a_side_that_makes_other_embeddings_ends_the_comparison():
    found = Found(rounds=[{}])
    found.add(PLAIN, run_at(1))
    with pytest.raises(RunError, match="the sides do not agree: pipeline"):
        found.add(PIPELINE, run_at(2, embeddings=((1.0, 0.1), (0.0, 1.0))))


def test_the_plain_loop_and_the_scorer_give_the_same_embeddings(tmp_path, photos):
    model = save_tiny_clip(tmp_path / "model")
    work = Work(photos, model, tmp_path, batch=4)
    began = time.time()
    plain.run(work)
    loop = Timeline.of(began, pq.read_table(work.rows))
    assert len(loop.names) == 6
    encoder = OpenClipEncoder(model, device="cpu", threads=1)
    with ImageScorer(encoder, parse_policy(policy_text(model))) as scorer:
        scored = scorer.score(list(photos))
    table = pa.table(
        {
            "uri": scored.embeddings["uri"],
            "embedding": scored.embeddings["embedding"],
            "scored_at": pa.array([1.0] * 6),
        }
    )
    assert agreement(loop, Timeline.of(0.0, table)) >= against_peers.SAME


@pytest.mark.slow
def test_the_pipeline_leaves_rows_like_the_peers(tmp_path, photos, ray_cluster):
    model = save_tiny_clip(tmp_path / "model")
    files = photos[:5]
    (tmp_path / "ours").mkdir()
    (tmp_path / "plain").mkdir()
    began = time.time()
    work = Work(files, model, tmp_path / "ours", batch=2)
    ours.run(work)
    run = Timeline.of(began, ours.rows(work.output))
    assert run.names == tuple(file.name for file in files)
    assert 0 < run.first_s < 120
    peer = Work(files, model, tmp_path / "plain", batch=2)
    plain.run(peer)
    assert agreement(run, Timeline.of(began, pq.read_table(peer.rows))) >= against_peers.SAME


def test_the_models_tell_pictures_apart(tmp_path):
    """Else a cosine of 0.999 between two sides would say nothing."""
    from benchmarks.images import photo
    from benchmarks.peers.work import light_model

    encoder = OpenClipEncoder(light_model(tmp_path / "light"), device="cpu", threads=1)
    assert encoder.preprocessing.size == 224
    pixels = np.stack([encoder.preprocessing(photo((300, 240), seed)) for seed in range(4)])
    found = encoder.encode_images(pixels)
    assert (found @ found.T)[~np.eye(4, dtype=bool)].max() < 0.99


def test_files_are_where_the_comparison_needs_them(tmp_path):
    work = Work((tmp_path / "a.jpg", tmp_path / "b.jpg"), "local-dir:m", tmp_path, 2, bucket="x")
    assert work.images == ["s3://x/a.jpg", "s3://x/b.jpg"]
    assert Path(Work(work.files, "m", tmp_path, 2).images[0]) == tmp_path / "a.jpg"
