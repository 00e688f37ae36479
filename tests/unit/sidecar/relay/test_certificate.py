"""The certificate that all sidecars of one server derive, each by itself."""

import subprocess
import sys

from cryptography import x509

from mcpace_sidecar.relay.certificate import Certificate

SECRET, OTHER = bytes(range(32)), bytes(32)


def test_every_pod_derives_the_same_bit_for_bit() -> None:
    program = "from mcpace_sidecar.relay.certificate import Certificate; print(Certificate(bytes(range(32))).pem.decode())"
    elsewhere = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout
    assert elsewhere.strip() == Certificate(SECRET).pem.strip()
    assert x509.load_pem_x509_certificate(Certificate(SECRET).pem).not_valid_after_utc.year == 9999


def test_another_servers_key_makes_another_certificate_of_another_name() -> None:
    assert Certificate(SECRET).pem != Certificate(OTHER).pem
    assert Certificate(SECRET).name != Certificate(OTHER).name


def test_a_certificate_says_nothing_of_its_key() -> None:
    assert "PRIVATE" not in repr(Certificate(SECRET)) + Certificate(SECRET).pem.decode()
