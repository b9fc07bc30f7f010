"""What leaves the machine: no passwords, no paths, and all else as it is."""

import pytest

from cavalcade.cli import as_plain
from cavalcade.report.public_config import (
    hold_secrets,
    without_passwords,
    without_paths,
    without_secrets,
)
from hardening import HIDDEN, SHOWN
from test_config import OPTIONS, REQUIRED, composed

SECRET_KEYS = (
    *("api_key", "WANDB_API_KEY", "apiKey", "x-api-key", "APIKey", "token", "accessToken"),
    *("access_tokens", "aws_secret_access_key", "aws_access_key_id", "private_key", "auth"),
    *("account_key", "connection_string", "X-Auth-Key", "smtp_pass", "sas", "encryption_key"),
    *("cookie", "jwt", "api_key2", "auth_header"),
    *("Authorization", "passphrase", "pwd", "db.password", "bearer", "clientSecret", "oauth"),
)
HARMLESS_KEYS = (
    *("tokens", "num_tokens", "numTokens", "token_grid", "author", "authors", "monkey", "key"),
    *("keys", "design", "passes", "account", "key_id", "secretary", "tokenizer"),
)
SIGNED = (
    "https://bucket/x?AWSAccessKeyId=abc&n=1",
    "https://bucket/x?n=1&X-Amz-Signature=abc",
    "https://bucket/x?X-Amz-Credential=abc%2Fd&n=1",
    "https://bucket/x?X-Amz-Security-Token=abc",
    "https://account/x?sv=1&sig=abc",
    "https://host/x?n=1#access_token=abc",
    "https://host/x?n=1;token=abc",
)


def test_secrets_and_paths_are_taken_out():
    config = {
        "data": {"root": "https://me:p@ss@host/d?token=abc&n=1", "labels": ["/home/me/a/b.json"]},
        "settings": {"api_key": "k", "token": None, "auth": {"user": "me"}, "bearer": True},
        "keep": ["a:b@c", 3, None, True, "runs/x", "wandb:e/p/n:v0", "https://host/@x?n=a@b"],
    }
    assert without_paths(without_secrets(config)) == {
        "data": {"root": "https://host/d?token=removed&n=1", "labels": ["…/b.json"]},
        "settings": {"api_key": "removed", "token": None, "auth": "removed", "bearer": True},
        "keep": config["keep"],
    }
    assert without_paths({"a": "~/x/y", "b": "file:///x/y", "c": r"C:\x\y"}) == {
        **{"a": "…/y", "b": "…/y", "c": "…/y"}
    }


@pytest.mark.parametrize("key", SECRET_KEYS)
def test_values_of_secret_keys_are_hidden_at_any_depth(key, tried):
    assert without_secrets({"a": [{key: "abc"}]}) == {"a": [{key: "removed"}]}
    for argument in (f"{key}=abc", f"+a.{key}=abc", f"a={{{key}: abc}}", f"a={{b:{{{key}:abc}}}}"):
        assert hold_secrets([argument]), argument
    assert hold_secrets([f"a=[{{n: 1, '{key}': abc}}]", "b=1"])
    assert hold_secrets([f"a={{n:1}},{{{key}:abc}}"])  # values of a sweep
    tried("secrets", "a value under a key such as `api_key`", HIDDEN)


@pytest.mark.parametrize("key", HARMLESS_KEYS)
def test_keys_that_only_look_like_secret_ones_stay(key, tried):
    config = {key: "abc", "a": {key: 3}}
    assert without_secrets(config) == config
    assert not hold_secrets([f"{key}=abc", f"a={{{key}: abc}}", f"root=https://host/x?{key}=abc"])
    tried("secrets", "a value under a key such as `num_tokens`", SHOWN)


@pytest.mark.parametrize("url", SIGNED)
def test_signatures_of_urls_are_taken_out(url, tried):
    shown = without_secrets({"root": url})["root"]
    assert "abc" not in shown
    assert ("n=1" in shown) == ("n=1" in url)
    assert hold_secrets([f"data.root={url}"])
    tried("secrets", "a signature in a URL", HIDDEN)


@pytest.mark.parametrize(
    "text", ["Authorization: Basic abcdefgh", "authorization: abcdefgh", "Bearer abcdefgh"]
)
def test_headers_and_options_in_lists_are_taken_out(text, tried):
    shown = without_secrets({"headers": [text], "options": ["--token=abcdefgh", "--n=1"]})
    assert "abcdefgh" not in str(shown)
    assert shown["options"][1] == "--n=1"
    assert hold_secrets([f"headers=[{text}]"])
    tried("secrets", "a header or an option with a token", HIDDEN)


@pytest.mark.parametrize("scheme", ["s3", "postgresql+psycopg2", "git+ssh", "https"])
def test_schemes_of_any_name_show_no_password(scheme):
    for slashes in ("//", "/"):
        url = f"{scheme}:{slashes}me:pw@host/x"
        assert without_passwords(f"at {url}") == f"at {scheme}:{slashes}host/x"
        assert hold_secrets([f"data.root={url}"])


def test_arguments_without_a_key_are_looked_at():
    assert hold_secrets(["--config-dir", "https://me:pw@host/conf"])


def test_hosts_stay_where_a_query_holds_an_address():
    config = {"root": "https://host?mail=a@b.org&n=1", "notes": "basic blocks"}
    assert without_secrets(config) == config


def test_a_url_that_became_a_path_shows_no_password():
    assert without_passwords("https:/me:pw@host/x") == "https:/host/x"
    for text in ("C:/me@x", "a:/b/c@d", "wandb:/e@f/g"):
        assert without_passwords(text) in (text, "wandb:/f/g")


def test_a_user_of_a_url_may_be_a_token():
    url = "https://ghp_abc@github.com/me/x"
    assert without_secrets({"root": url}) == {"root": "https://github.com/me/x"}
    assert hold_secrets([f"data.root={url}"])


@pytest.mark.parametrize(
    ("program", "overrides"),
    [
        ("train", []),
        ("compare", []),
        *(
            ("train", [option, *REQUIRED.get(option, [])])
            for option in OPTIONS
            if option != "logger=csv"  # its folder is known to a running program only
        ),
    ],
)
def test_our_own_keys_come_through(program, overrides, tried):
    config = as_plain(composed(program, *overrides))
    assert without_secrets(config) == config
    assert not hold_secrets([f"{program}.py", *overrides])
    tried("secrets", "every option of cavalcade", SHOWN)
