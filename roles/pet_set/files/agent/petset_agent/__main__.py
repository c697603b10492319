# SPDX-License-Identifier: GPL-3.0-or-later
"""Start from the environment of the pod. The variables without a default are set by the module pet_set."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path

from .lease import LeaseApi
from .loop import Agent, Config, say
from .model import Settings


def read_config(environment: Mapping[str, str]) -> tuple[Config, LeaseApi]:
    """All settings. KeyError: a variable is missing."""
    pet, set_name = environment["PETSET_POD"], environment["PETSET_SET"]
    ordinal = int(pet.rpartition("-")[2])
    settings = Settings(pet, ordinal, int(environment.get("PETSET_MASTERS", "2")))
    port = int(environment.get("PETSET_AGENT_PORT", "8008"))
    peers = {
        f"{set_name}-{number}": f"http://{set_name}-{number}.{environment['PETSET_SERVICE']}:{port}"
        for number in range(settings.eligible_masters)
        if number != ordinal
    }
    given = environment.get("PETSET_AGENT_PEERS")
    if given is not None:
        peers = dict(one.split("=", 1) for one in given.split(",") if one)
    host, api_port = environment.get("KUBERNETES_SERVICE_HOST", ""), environment.get("KUBERNETES_SERVICE_PORT", "443")
    url = f"https://[{host}]:{api_port}" if ":" in host else f"https://{host}:{api_port}"
    config = Config(
        settings,
        environment.get("PETSET_AGENT_SOCKET", "/petset/run/mysqld.sock"),
        Path(environment.get("PETSET_AGENT_PASSWORD_FILE", "/petset/secret/agent-password")),
        peers,
        port,
        environment.get("PETSET_AGENT_HOST", ""),
        environment["PETSET_NAMESPACE"],
        Path(environment.get("PETSET_AGENT_VOLUME", "/var/lib/petset")),
    )
    api = LeaseApi(
        environment.get("PETSET_AGENT_API", url),
        environment["PETSET_NAMESPACE"],
        set_name,
        Path(environment.get("PETSET_AGENT_TOKEN_FILE", "/petset/api/token")),
        Path(environment.get("PETSET_AGENT_CA_FILE", "/petset/api/ca.crt")),
        settings.lease_s,
    )
    return config, api


def main() -> None:
    """Run until mysqld has ended."""
    agent = Agent(*read_config(os.environ))

    def end(_signal: int, _frame: object) -> None:
        agent.terminating = True

    signal.signal(signal.SIGTERM, end)
    say("started")
    agent.run()


if __name__ == "__main__":
    main()
