# SPDX-License-Identifier: GPL-3.0-or-later
"""The host's own mirror is found in whatever its apt sources look like, and no other archive is taken for it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab import debian
from lab.debian import Mirror
from lab.log import LabError

# -- deb822 ----------------------------------------------------------------------------------------------------------

DEBIAN_SOURCES = """\
# Debian's own file
Types: deb deb-src
URIs: http://mirror.example.org/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example.org/debian-security
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""


def test_stanzas_of_debians_own_file() -> None:
    first, second = debian.parse_deb822(DEBIAN_SOURCES)
    assert first == {
        "types": "deb deb-src",
        "uris": "http://mirror.example.org/debian",
        "suites": "bookworm bookworm-updates",
        "components": "main",
        "signed-by": "/usr/share/keyrings/debian-archive-keyring.gpg",
    }
    assert second["suites"] == "bookworm-security"


@pytest.mark.parametrize(
    ("text", "stanzas"),
    [
        ("", []),
        ("\n\n \n", []),
        ("# only\n# comments\n", []),
        ("Types: deb\n\n\n\nTypes: deb-src\n", [{"types": "deb"}, {"types": "deb-src"}]),
        ("TYPES:deb\nuRIs :  http://x  \n", [{"types": "deb", "uris": "http://x"}]),
        ("URIs: http://a\n http://b\n\thttp://c\nTypes: deb", [{"uris": "http://a http://b http://c", "types": "deb"}]),
        # a comment in the middle of a field is none of its lines
        ("URIs: http://a\n# http://no\n http://b\n", [{"uris": "http://a http://b"}]),
        ("Signed-By:\n -----BEGIN-----\n .\n mQINBF:x\n", [{"signed-by": " -----BEGIN----- . mQINBF:x"}]),
        (" a continuation of nothing\nno colon\nTypes: deb\n", [{"types": "deb"}]),
    ],
)
def test_deb822(text: str, stanzas: list[dict[str, str]]) -> None:
    assert debian.parse_deb822(text) == stanzas


words = st.text("aZ09:/.+-", min_size=1, max_size=8)
fields = st.dictionaries(
    st.sampled_from(["types", "uris", "suites", "components", "signed-by"]),
    st.lists(words, min_size=1, max_size=3).map(" ".join),
    min_size=1,
)


@given(st.lists(fields, max_size=4), st.sampled_from(["\n", "\n\n", "\n# x\n \n"]), st.booleans())
def test_deb822_gives_back_what_was_written(stanzas: list[dict[str, str]], between: str, folded: bool) -> None:
    text = between.join(
        "".join(f"{k.title()}: {v.replace(' ', chr(10) + ' ') if folded else v}\n" for k, v in stanza.items())
        for stanza in stanzas
    )
    assert debian.parse_deb822(text) == stanzas


# -- one-line --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "entry"),
    [
        ("deb http://d/debian bookworm main", ("http://d/debian", "bookworm", ["main"])),
        ("  deb\thttp://d/debian  bookworm main contrib # ours", ("http://d/debian", "bookworm", ["main", "contrib"])),
        ("deb [arch=amd64] http://d/debian bookworm main", ("http://d/debian", "bookworm", ["main"])),
        (
            "deb [arch=amd64 signed-by=/k.gpg check-valid-until=no] http://d/debian bookworm main",
            ("http://d/debian", "bookworm", ["main"]),
        ),
        ("deb [ arch=amd64 trusted=yes ] http://d/debian bookworm main", ("http://d/debian", "bookworm", ["main"])),
        ("deb [] http://d/debian bookworm main", ("http://d/debian", "bookworm", ["main"])),
        ("deb-src http://d/debian bookworm main", None),
        ("# deb http://d/debian bookworm main", None),
        ("#deb http://d/debian bookworm main", None),
        ("debug http://d/debian bookworm main", None),
        ("deb http://d/debian ./", None),
        ("deb [arch=amd64", None),
        ("deb", None),
        ("", None),
    ],
)
def test_one_line_style(line: str, entry: tuple[str, str, list[str]] | None) -> None:
    assert debian.parse_one_line(line) == ([entry] if entry else [])


# -- the mirror ------------------------------------------------------------------------------------------------------

LIST, SOURCES = "/etc/apt/sources.list", "/etc/apt/sources.list.d/debian.sources"


def stanza(**fields: str) -> str:
    base = {"Types": "deb", "URIs": "http://m/debian", "Suites": "bookworm", "Components": "main"}
    return "".join(f"{k}: {v}\n" for k, v in {**base, **fields}.items())


@pytest.mark.parametrize(
    ("sources", "uri"),
    [
        ({SOURCES: DEBIAN_SOURCES}, "http://mirror.example.org/debian"),
        ({LIST: "deb http://m/debian/ bookworm main\n"}, "http://m/debian"),
        ({LIST: "# see debian.sources\n", SOURCES: stanza()}, "http://m/debian"),
        ({SOURCES: stanza(Types="deb-src deb", Components="contrib main", Enabled="Yes")}, "http://m/debian"),
        ({SOURCES: stanza(URIs="http://a/debian http://b/debian")}, "http://a/debian"),
        ({LIST: "deb http://m/debian stable main"}, "http://m/debian"),
        ({}, None),
        ({LIST: ""}, None),
        ({SOURCES: stanza(Types="deb-src")}, None),
        ({SOURCES: stanza(Components="contrib non-free")}, None),
        ({SOURCES: stanza(Suites="trixie")}, None),
        ({LIST: "deb http://m/debian bookworm contrib"}, None),
    ],
)
def test_the_mirror_of_a_host(sources: dict[str, str], uri: str | None) -> None:
    assert debian.parse_mirror(sources, "bookworm") == uri


@pytest.mark.parametrize("no", ["no", "No", "false", "off", "0", "without", "disable"])
def test_a_stanza_that_is_switched_off_is_none_however_apt_lets_one_say_so(no: str) -> None:
    """Words: StringToBool of apt, apt-pkg/contrib/strutl.cc."""
    off = stanza(URIs="http://off/debian", Enabled=no)
    assert debian.parse_mirror({SOURCES: off}, "bookworm") is None
    assert debian.parse_mirror({SOURCES: off + "\n" + stanza()}, "bookworm") == "http://m/debian"


@pytest.mark.parametrize("suite", ["bookworm-security", "bookworm/updates", "stable-security", "bookworm-updates",
                                   "bookworm-backports", "bookworm-proposed-updates"])  # fmt: skip
def test_a_security_or_update_suite_is_never_taken(suite: str) -> None:
    first = stanza(URIs="http://security.example.org/debian-security", Suites=suite)
    assert debian.parse_mirror({SOURCES: first}, "bookworm") is None
    assert debian.parse_mirror({SOURCES: first + "\n" + stanza()}, "bookworm") == "http://m/debian"
    line = f"deb http://security.example.org/debian-security {suite} main\n"
    assert debian.parse_mirror({LIST: line}, "bookworm") is None


OTHERS = {
    "/etc/apt/sources.list.d/azure.list": "deb [arch=amd64] https://packages.example.com/azure-cli bookworm main\n",
    "/etc/apt/sources.list.d/chat.list": "deb https://dl.example.com/chat/deb/ stable main\n",
    "/etc/apt/sources.list.d/code.sources": stanza(URIs="https://packages.example.com/code", Suites="stable"),
    "/etc/apt/sources.list.d/vpn.list": "deb https://pkgs.example.com/stable/debian bookworm main\n",
}


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize(
    "own",
    [
        {SOURCES: DEBIAN_SOURCES},
        {
            LIST: (
                "deb http://mirror.example.org/debian bookworm main\n"
                "deb http://mirror.example.org/debian bookworm-updates main\n"
            )
        },
        {
            "/etc/apt/sources.list.d/zz-company.list": (
                "deb http://mirror.example.org/debian bookworm-updates main\n"
                "deb http://mirror.example.org/debian/ bookworm main\n"
            )
        },
    ],
    ids=["deb822", "one-line", "last"],
)
def test_somebody_elses_archive_for_this_release_is_not_taken_for_debians(own: dict[str, str], other: str) -> None:
    """Many products have a suite 'stable main' or one named after the release; none has forky's packages."""
    assert debian.parse_mirror({**own, other: OTHERS[other]}, "bookworm") == "http://mirror.example.org/debian"
    assert debian.parse_mirror({**own, **OTHERS}, "bookworm") == "http://mirror.example.org/debian"


@pytest.mark.parametrize("other", ["azure", "chat", "code"])
def test_without_updates_in_its_sources_debian_is_known_by_its_path(other: str) -> None:
    other = next(name for name in OTHERS if other in name)
    assert debian.parse_mirror({"/z.list": "deb http://m/debian bookworm main", other: OTHERS[other]}, "bookworm") == (
        "http://m/debian"
    )


def test_a_company_mirror_of_any_path_is_taken_when_it_is_the_only_one() -> None:
    line = "deb http://nexus.corp/repository/apt-proxy bookworm main\n"
    assert debian.parse_mirror({LIST: line}, "bookworm") == "http://nexus.corp/repository/apt-proxy"


# -- from this host --------------------------------------------------------------------------------------------------

APT_CONFIG = """\
Acquire
Acquire::cdrom
Acquire::http
Acquire::http::Proxy http://proxy.corp:3128
Acquire::http::Proxy::deb.corp DIRECT
Acquire::https
Acquire::https::Proxy
Acquire::Retries 3
"""


def found_mirror(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, files: dict[str, str], apt_config: str = ""
) -> Mirror:
    """find_mirror on a host with these files."""
    for name, text in files.items():
        path = tmp_path / name.removeprefix("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    real = debian.Path
    monkeypatch.setattr(debian, "Path", lambda name: real(str(tmp_path) + name))
    monkeypatch.setattr(debian, "run", lambda argv, **how: apt_config)
    monkeypatch.delenv("PETSET_LAB_MIRROR", raising=False)
    return debian.find_mirror.__wrapped__()


OS_RELEASE = {"/etc/os-release": 'NAME="Debian"\nVERSION_CODENAME=bookworm\nID=debian\n'}


def test_the_mirror_and_the_proxies_are_those_of_the_hosts_apt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mirror = found_mirror(monkeypatch, tmp_path, {**OS_RELEASE, SOURCES: DEBIAN_SOURCES}, APT_CONFIG)
    assert mirror == Mirror(
        "http://mirror.example.org/debian",
        ('Acquire::http::Proxy "http://proxy.corp:3128"', 'Acquire::http::Proxy::deb.corp "DIRECT"'),
    )


def test_a_program_that_finds_a_proxy_stays_on_the_host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The machines do not have it, and apt in them would fail on it."""
    apt_config = (
        "Acquire::http::Proxy-Auto-Detect /usr/bin/squid-deb-proxy\nAcquire::http::ProxyAutoDetect /usr/bin/auto\n"
    )
    files = {**OS_RELEASE, SOURCES: DEBIAN_SOURCES}
    assert found_mirror(monkeypatch, tmp_path, files, apt_config).proxies == ()


def test_a_quoted_code_name_and_an_old_list_do_as_well(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    files = {"/etc/os-release": 'VERSION_CODENAME="trixie"\n', LIST: "deb http://m/debian trixie main\n"}
    assert found_mirror(monkeypatch, tmp_path, files) == Mirror("http://m/debian")


def test_files_that_apt_does_not_read_do_not_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    files = {
        **OS_RELEASE,
        SOURCES + ".disabled": stanza(URIs="http://off/debian"),
        LIST: "deb http://m/d bookworm main",
    }
    assert found_mirror(monkeypatch, tmp_path, files).uri == "http://m/d"


def test_a_list_of_mirrors_on_the_host_is_read_as_the_machines_do_not_have_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Debian's cloud images: URIs: mirror+file:///etc/apt/mirrors/debian.list."""
    files = {
        **OS_RELEASE,
        SOURCES: stanza(URIs="mirror+file:///etc/apt/mirrors/debian.list", Suites="bookworm bookworm-updates"),
        "/etc/apt/mirrors/debian.list": "# ours\nhttps://mirror.example.org/debian/\tpriority:1\nhttp://second/debian\n",
    }
    assert found_mirror(monkeypatch, tmp_path, files).uri == "https://mirror.example.org/debian"


@pytest.mark.parametrize("more", [{}, {"/etc/apt/mirrors/debian.list": "# none\n"}])
def test_a_list_of_mirrors_that_names_none_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, more: dict[str, str]
) -> None:
    files = {**OS_RELEASE, **more, SOURCES: stanza(URIs="mirror+file:/etc/apt/mirrors/debian.list")}
    with pytest.raises(LabError, match=r"/etc/apt/mirrors/debian\.list") as caught:
        found_mirror(monkeypatch, tmp_path, files)
    assert "PETSET_LAB_MIRROR" in str(caught.value.hint)


def test_a_mirror_by_word_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debian, "run", lambda argv, **how: APT_CONFIG)
    monkeypatch.setenv("PETSET_LAB_MIRROR", "http://own/debian")
    mirror = debian.find_mirror.__wrapped__()
    assert (mirror.uri, len(mirror.proxies)) == ("http://own/debian", 2)


def test_a_host_without_a_mirror_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"no Debian mirror found .* for release 'bookworm'") as caught:
        found_mirror(monkeypatch, tmp_path, {**OS_RELEASE, LIST: "deb http://u/ubuntu noble main\n"})
    assert "PETSET_LAB_MIRROR" in str(caught.value.hint)


def test_a_host_of_another_distribution_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its archive looks like Debian's and has no forky."""
    files = {"/etc/os-release": "ID=ubuntu\nVERSION_CODENAME=noble\n", LIST: "deb http://u/ubuntu noble main\n"}
    with pytest.raises(LabError, match="this host is ubuntu") as caught:
        found_mirror(monkeypatch, tmp_path, files)
    assert "PETSET_LAB_MIRROR" in str(caught.value.hint)


# -- trees -----------------------------------------------------------------------------------------------------------


def test_mmdebstraps_command_line() -> None:
    mirror = Mirror("http://m/debian", ('Acquire::http::Proxy "http://p:3128"',))
    argv = debian.render_mmdebstrap(
        mirror,
        Path("/t/tree"),
        suite="forky",
        variant="minbase",
        include=["systemd", "udev"],
        extra_suites=["sid"],
        hooks=["--setup-hook=true"],
    )
    assert argv[0] == "mmdebstrap"
    assert argv[-4:] == ["forky", "/t/tree", "deb http://m/debian forky main", "deb http://m/debian sid main"]
    for wanted in (
        "--mode=root",
        "--variant=minbase",
        "--include=systemd,udev",
        '--aptopt=Acquire::http::Proxy "http://p:3128"',
        '--aptopt=Acquire::Check-Valid-Until "false"',
        "--setup-hook=true",
    ):
        assert wanted in argv[:-4]


def test_signatures_are_checked_whatever_else_is_let_through() -> None:
    argv: list[Any] = debian.render_mmdebstrap(Mirror("http://m"), Path("/t"), suite="forky", variant="x", include=[])
    text = shlex.join(argv).lower()
    for word in ("trusted=yes", "allowunauthenticated", "allow-insecure", "allowinsecure"):
        assert word not in text


def test_the_plain_machine_has_no_nfs_and_the_node_has_the_client_alone() -> None:
    """The role's package step is to be real."""
    assert not [name for name in debian.PLAIN if "nfs" in name]
    assert [name for name in debian.NODE if "nfs" in name] == ["nfs-common"]
    assert {"openssh-server", "python3"} <= set(debian.PLAIN)


def test_no_address_of_a_mirror_is_written_down() -> None:
    assert "debian.org" not in Path(debian.__file__).read_text()
