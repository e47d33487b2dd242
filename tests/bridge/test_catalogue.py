"""`kit.bridge(extension)`: the catalogue of other extensions' signals."""

from typing import Any

import flask_login  # type: ignore[import-untyped]
import pytest

from flask_signals_kit import (
    ConfigurationError,
    SignalsKit,
    UnknownSignalError,
    current_emission,
)
from tests.bridge.support import make_site


def test_flask_login_is_bridged_by_its_name(kit: SignalsKit) -> None:
    """A real login and logout are relayed, with the user, for this app alone."""
    app, other = make_site(kit), make_site(kit, "other")
    names = kit.bridge("flask_login")
    assert "flask_login.user_logged_in" in names
    assert "flask_login.session_protected" in names
    assert all(name.startswith("flask_login.") for name in names)

    class User(flask_login.UserMixin):  # type: ignore[misc]  # it has no types
        id = "mary"

    for each in (app, other):
        manager = flask_login.LoginManager(each)
        manager.user_loader(lambda name: User())
        each.add_url_rule("/login", "login", lambda: str(flask_login.login_user(User())))
        each.add_url_rule("/logout", "logout", lambda: str(flask_login.logout_user()))
    seen: list[Any] = []

    @kit.for_app(app).on("flask_login.user_logged_in", "flask_login.user_logged_out")
    def note(sender: Any, *, user: Any, **extra: Any) -> None:
        seen.append((current_emission.signal, sender is app, user.id))

    for each in (app, other):
        client = each.test_client()
        client.get("/login")
        client.get("/logout")
    assert seen == [
        ("flask_login.user_logged_in", True, "mary"),
        ("flask_login.user_logged_out", True, "mary"),
    ]


def test_names_and_prefix_of_an_extension_can_be_chosen(kit: SignalsKit) -> None:
    """The prefix may be empty."""
    assert kit.bridge("flask_login", names=["user_logged_in"], prefix="") == ("user_logged_in",)
    assert kit.bridge("flask_login", names="user_logged_out", prefix="auth.") == (
        "auth.user_logged_out",
    )


def test_unknown_signal_of_an_extension_is_refused(kit: SignalsKit) -> None:
    """The message has the nearest name and all names."""
    with pytest.raises(UnknownSignalError) as caught:
        kit.bridge("flask_login", names=["user_loged_in"])
    assert "flask_login has no signal 'user_loged_in'" in str(caught.value)
    assert "Did you mean 'user_logged_in'?" in str(caught.value)


def test_unknown_extension_is_refused(kit: SignalsKit) -> None:
    """The message has the nearest name, the catalogue, and how to bridge without it."""
    with pytest.raises(UnknownSignalError) as caught:
        kit.bridge("flask_logn")
    message = str(caught.value)
    assert "'flask_logn'" in message
    assert "Did you mean 'flask_login'?" in message
    assert "flask_dance" in message
    assert "kit.bridge(namespace)" in message


def test_extension_that_is_not_installed_is_refused(kit: SignalsKit) -> None:
    """The message says what to install."""
    with pytest.raises(ConfigurationError) as caught:
        kit.bridge("flask_appbuilder")
    message = str(caught.value)
    assert "flask_appbuilder" in message
    assert "pip install Flask-AppBuilder" in message


def test_catalogue_matches_installed_flask_sqlalchemy(kit: SignalsKit) -> None:
    """What the catalogue says of an installed extension is there."""
    assert kit.bridge("flask_sqlalchemy") == (
        "flask_sqlalchemy.models_committed",
        "flask_sqlalchemy.before_models_committed",
    )
