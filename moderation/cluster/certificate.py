"""A certificate of a run's own: without its key nobody can listen in place of a process of the run, nor call one."""

import datetime
import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from moderation.common.loopback import HOSTS

VALID = datetime.timedelta(days=365)


@dataclass(frozen=True)
class Certificate:
    """Files that every process of a run reads: it is who they are, and whom they trust."""

    certificate: Path
    key: Path


def make_certificate(folder: Path) -> Certificate:
    """Write a new key and a certificate for loopback, signed by itself, to files that only this user can read."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "clip-moderation")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - VALID)  # clocks are set back now and then
        .not_valid_after(now + VALID)
        .add_extension(x509.SubjectAlternativeName([_alternative(host) for host in HOSTS]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    made = Certificate(folder / "certificate.pem", folder / "key.pem")
    _write(made.certificate, certificate.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    _write(made.key, key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    return made


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
