"""What can be said of docker/ without an engine: it names what is there, and nothing is secret."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
DOCKER = ROOT / "docker"
COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
LINES = re.sub(r"\\\n", " ", (DOCKER / "Dockerfile").read_text()).splitlines()
INSTRUCTIONS = [line.split(maxsplit=1) for line in LINES if line and not line.startswith("#")]
AUTOML = Path(sys.executable).parent / "automl"


def test_the_image_copies_what_exists_and_all_that_is_installed() -> None:
    copied = {name for word, rest in INSTRUCTIONS if word == "COPY" for name in rest.split()[:-1]}
    assert all((ROOT / name).exists() for name in copied)
    assert {"automl", "cli", "search_spaces", "workers", "constraints.txt"} <= copied


def test_the_image_takes_another_base_and_does_not_run_as_root() -> None:
    words = [word for word, _ in INSTRUCTIONS]
    assert words.index("ARG") < words.index("FROM")
    users = [rest for word, rest in INSTRUCTIONS if word == "USER"]
    assert users == ["automl"]
    assert words.index("USER") < words.index("ENTRYPOINT")
    assert "HEALTHCHECK" in words


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_uses_only_what_is_declared(name: str) -> None:
    service = SERVICES[name]
    assert "image" in service
    if "build" in service:
        context = DOCKER / service["build"]["context"]
        assert (context / service["build"]["dockerfile"]).is_file()
    assert set(service.get("secrets", [])) <= set(COMPOSE["secrets"])
    assert {v.split(":")[0] for v in service.get("volumes", [])} <= set(COMPOSE["volumes"])
    assert set(service.get("depends_on", {})) <= set(SERVICES)


@pytest.mark.parametrize(
    "name", [n for n, s in SERVICES.items() if "entrypoint" not in s and "build" in s]
)
def test_a_command_is_one_of_ours(name: str) -> None:
    command: list[str] = SERVICES[name]["command"]
    words = command[: 2 if command[0] in ("worker", "driver") else 1]
    options = {word for word in command if word.startswith("--")}
    shown = subprocess.run([AUTOML, *words, "--help"], capture_output=True, text=True, check=True)
    assert all(option in shown.stdout for option in options)


def test_no_password_stands_in_the_files() -> None:
    for name, service in SERVICES.items():
        for key, value in service.get("environment", {}).items():
            assert "PASSWORD" not in key or value.startswith("/run/secrets/"), name
    assert "docker/secrets/" in (ROOT / ".gitignore").read_text()


def test_redis_forgets_nothing() -> None:
    text = (DOCKER / "compose.yaml").read_text()
    assert "appendonly yes" in text
    assert "maxmemory-policy noeviction" in text
    assert SERVICES["redis"]["volumes"] == ["redis:/data"]


def test_the_driver_service_comes_up_with_the_rest_and_may_save_its_studies() -> None:
    driver = SERVICES["driver"]
    assert driver["command"] == ["driver", "start"]
    assert "profiles" not in driver and driver["restart"] == "unless-stopped"
    assert int(driver["stop_grace_period"].rstrip("s")) > 60  # as long as it waits for them
