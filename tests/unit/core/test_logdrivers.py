"""Options of log drivers: their defaults, what is refused, attributes and tags."""

import pytest

from pyswarm_core.docker import logdrivers
from pyswarm_core.docker.logdrivers import (
    DRIVERS,
    FILE_SIZE,
    FILES,
    Address,
    LogSettings,
    Origin,
    attributes,
    options_of,
    rendered_tag,
    settings_of,
)
from pyswarm_core.logs.patterns import Pattern
from pyswarm_core.specs import LogDriver
from pyswarm_core.validation.container import log_driver_problems

ORIGIN = Origin(
    full_id="0123456789abcdefghijklmno",
    name="web.1.0123456789abcdefghijklmno",
    image_name="web:1",
    image_id="sha256:" + "ab" * 32,
    command="nginx -g",
)


def driver(name: str = "", **options: str) -> LogDriver:
    return LogDriver(
        name=name, options={key.replace("_", "-"): text for key, text in options.items()}
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (driver(), LogSettings()),
        (driver("json-file"), LogSettings()),
        (driver(max_size="10m"), LogSettings(max_size=10 << 20, max_file=1)),
        (driver(max_file="7"), LogSettings(max_file=7)),
        (
            driver("json-file", max_size="1.5k", max_file="2", compress="false", mode="blocking"),
            LogSettings(max_size=1536, max_file=2),
        ),
        (driver("local"), LogSettings(driver="local", max_size=FILE_SIZE, max_file=FILES)),
        (
            driver("local", max_size="1g"),
            LogSettings(driver="local", max_size=1 << 30, max_file=FILES),
        ),
        (driver("none"), LogSettings(driver="none")),
        (
            driver("journald", tag="{{.Name}}", cache_max_size="1m", cache_max_file="2"),
            LogSettings(driver="journald", max_size=1 << 20, max_file=2, tag="{{.Name}}"),
        ),
        (
            driver("syslog", mode="non-blocking", cache_disabled="false"),
            LogSettings(driver="syslog", max_size=FILE_SIZE, max_file=FILES, tag="{{.ID}}"),
        ),
        (
            driver("syslog", syslog_facility="local3", syslog_format="rfc5424"),
            LogSettings(
                driver="syslog",
                max_size=FILE_SIZE,
                max_file=FILES,
                tag="{{.ID}}",
                facility=19,
                format="rfc5424",
            ),
        ),
    ],
)
def test_settings_have_docker_s_defaults(given: LogDriver, expected: LogSettings) -> None:
    assert not list(log_driver_problems(given))
    assert settings_of(given) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("udp://loghost", Address("udp", "loghost", 514)),
        ("udp://10.0.0.1:5140", Address("udp", "10.0.0.1", 5140)),
        ("tcp://[fd00::1]:601", Address("tcp", "fd00::1", 601)),
        ("tcp://log_host-1.example.com.", Address("tcp", "log_host-1.example.com.", 514)),
        ("udp://" + "x" * 63, Address("udp", "x" * 63, 514)),
        ("unixgram:///dev/log", Address("unixgram", path="/dev/log")),
        ("unix:///run/s.sock", Address("unix", path="/run/s.sock")),
    ],
)
def test_an_address_is_read(text: str, expected: Address) -> None:
    given = driver("syslog", syslog_address=text)
    assert not list(log_driver_problems(given))
    assert settings_of(given).address == expected


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (driver("fluentd"), '--log-driver: value "fluentd" is not valid: expected json-file, loc'),
        (driver("sysloq"), "none, journald or syslog; did you mean syslog?"),
        (driver("x\n"), r'--log-driver: value "x\n" is not valid'),
        (driver("none", tag="x"), '--log-opt: value "tag=x" is not valid: expected an option of n'),
        (driver(max_sizes="1m"), "expected an option of json-file: max-size, max-file, compress,"),
        (driver(syslog_address="udp://a"), "expected an option of json-file"),
        (driver("syslog", max_size="1m"), "expected an option of syslog: labels,"),
        (driver(max_size="0"), '"max-size=0" is not valid: expected a size of more than 0'),
        (driver(max_size="-1"), '"max-size=-1" is not valid: expected a number with b, k, m'),
        (driver(max_file="0"), "expected a number of files, 1 to 100"),
        (driver(max_file="101"), "expected a number of files, 1 to 100"),
        (driver(max_file="x"), "expected a number of files, 1 to 100"),
        (driver(compress="true"), "expected false: rotated files are not compressed"),
        (driver(mode="non-blocking"), "expected blocking: each line"),
        (driver("syslog", mode="blocking"), "expected non-blocking: lines are sent from files"),
        (driver(max_buffer_size="4m"), "expected max-size and max-file in place of it"),
        (driver("syslog", max_buffer_size="4m"), "expected cache-max-size and cache-max-file in"),
        (driver("journald", cache_disabled="true"), "expected false"),
        (driver("syslog", syslog_tls_cert="/x"), "TLS is not supported: expected a syslog-address"),
        (driver("syslog", syslog_address="tcp+tls://a"), "unix://PATH; TLS is not supported"),
        (driver("syslog", syslog_address="a:514"), "expected udp://HOST[:PORT], tcp://HOST"),
        (driver("syslog", syslog_address="udp://a:70000"), "expected udp://HOST[:PORT]"),
        (driver("syslog", syslog_address="udp://a:0"), "expected udp://HOST[:PORT]"),
        (driver("syslog", syslog_address="udp://"), "expected udp://HOST[:PORT]"),
        (driver("syslog", syslog_address="udp://a/b"), "expected udp://HOST[:PORT]"),
        (driver("syslog", syslog_address="unix://dev/log"), "expected udp://HOST[:PORT]"),
        (driver("syslog", syslog_address="unixgram:///" + "x" * 107), "at most 107 bytes"),
        (driver("syslog", syslog_facility="24"), "expected 0 to 23, or one of kern, user"),
        (driver("syslog", syslog_facility="local8"), "expected 0 to 23, or one of kern"),
        (driver("syslog", syslog_format="rfc1"), "expected rfc3164, rfc5424 or rfc5424micro"),
        (driver("syslog", syslog_address="udp://a..b"), "expected as HOST an IP address, or a nam"),
        (driver("syslog", syslog_address="udp://.a"), "expected as HOST an IP address"),
        (driver("syslog", syslog_address="tcp://" + "x" * 64), "labels of 1 to 63 letters"),
        (driver("syslog", syslog_address="tcp://" + "x." * 127 + "x"), "expected as HOST"),
        (driver("syslog", syslog_address="tcp://höst"), "expected as HOST an IP address"),
        (driver("syslog", syslog_address="tcp://a b"), "expected as HOST an IP address"),
        (driver(tag="{{.Nam}}"), '"{{.Nam}}" is no field: expected text with {{.ID}}, {{.FullID}}'),
        (driver(tag="{{.ID}}{{.Name | upper}}"), '"{{.Name | upper}}" is no field: expected text'),
        (driver(tag="{{- .ID}}"), '"{{- .ID}}" is no field'),
        (driver(tag="{{"), '"{{" is no field: expected text with {{.ID}}'),
        (driver(tag="{{.ID}"), '"{{.ID}" is no field'),
        (driver(tag="{{range .ID}}"), "{{.Command}} or {{.DaemonName}}"),
        (driver(tag="x" * 513), "at most 512 printable characters"),
        (driver(tag="a\nb"), "at most 512 printable characters"),
        (driver(tag="a\x1bb"), "expected no control characters"),
        (driver(labels_regex="("), "expected a regular expression"),
        (driver(labels_regex="(?=a)"), "expected a regular expression of RE2: invalid perl op"),
        (driver(env_regex="[ab].{100}$"), "expected a smaller one: it repeats too much"),
        (driver(env_regex="a" * 129), "expected at most 128 characters"),
    ],
)
def test_what_is_not_valid_is_named(given: LogDriver, told: str) -> None:
    assert told in "; ".join(map(str, log_driver_problems(given)))


def test_every_driver_names_only_options_that_it_accepts() -> None:
    assert options_of("none") == ()
    for name in DRIVERS[:2]:
        assert "max-size" in options_of(name)
        assert "max-buffer-size" not in options_of(name)
    assert set(options_of("syslog")) - set(options_of("journald")) == {
        "syslog-address",
        "syslog-facility",
        "syslog-format",
    }


def test_attributes_are_the_selected_labels_and_variables() -> None:
    labels = {"com.example.team": "blue", "stage": "test", "com.other": "x"}
    env = ("MODE=fast", "SECRET=1", "os_a=b=c")
    given = driver(labels="stage,missing", labels_regex="^com\\.example", env="MODE")
    assert attributes(given, labels, env) == {
        "stage": "test",
        "com.example.team": "blue",
        "MODE": "fast",
    }
    assert attributes(driver(env_regex="^os_"), labels, env) == {"os_a": "b=c"}
    assert attributes(driver(), labels, env, ORIGIN) == {}


def test_a_file_s_tag_is_an_attribute() -> None:
    assert attributes(driver(tag="a/{{.ID}}"), {}, (), ORIGIN) == {"tag": "a/0123456789ab"}
    assert attributes(driver("syslog", tag="a"), {}, (), ORIGIN) == {}


def test_a_tag_has_the_container_s_fields() -> None:
    text = "{{.ID}} {{.FullID}} {{.Name}} {{.ImageName}} {{.ImageID}} {{.Command}} {{.DaemonName}}"
    assert rendered_tag(text, ORIGIN) == (
        f"0123456789ab {ORIGIN.full_id} {ORIGIN.name} web:1 abababababab nginx -g pyswarm"
    )
    assert rendered_tag("{{.ImageFullID}}", ORIGIN) == "ab" * 32


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{ .ID }}/{{.Name }}", f"0123456789ab/{ORIGIN.name}"),
        ("{{{.ID}}}", "{0123456789ab}"),
        ("a}}{b}", "a}}{b}"),
    ],
)
def test_a_tag_may_have_braces_and_spaces(text: str, expected: str) -> None:
    assert not list(log_driver_problems(driver(tag=text)))
    assert rendered_tag(text, ORIGIN) == expected


def test_a_tag_is_no_program() -> None:
    # The text of each stage is five times that of the one before: as a template, megabytes.
    stages = "".join(f"{{{{$a{n} := print {' '.join([f'$a{n - 1}'] * 5)}}}}}" for n in range(1, 12))
    given = driver(tag=f"{{{{$a0 := .ID}}}}{stages}{{{{$a11}}}}")
    assert '"{{$a0 := .ID}}" is no field' in "; ".join(map(str, log_driver_problems(given)))
    assert len(rendered_tag(given.options["tag"], ORIGIN)) <= 512


def test_a_tag_is_cut() -> None:
    long = Origin(full_id="a", name="n", command="x" * 100_000)
    assert rendered_tag("{{.Command}}" * 40, long) == "x" * 1024


@pytest.mark.parametrize("text", ["(a+)+$", "a*a*a*b", r"(?i)^COM\.EXAMPLE\.", "^(a|b)?c"])
def test_expressions_have_the_syntax_of_docker_and_match_in_linear_time(text: str) -> None:
    given = driver(labels_regex=text)
    assert not list(log_driver_problems(given))
    assert isinstance(logdrivers.read_option("json-file", "labels-regex", text), Pattern)
    labels = {"a" * 4000 + "c": "x", "com.example.a": "y", "ac": "z"}
    expected = {"(a+)+$": [0, 1], "a*a*a*b": [], "^(a|b)?c": [1, 2]}.get(text, [1])
    assert list(attributes(given, labels, ())) == [list(labels)[number] for number in expected]
