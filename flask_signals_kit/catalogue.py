"""The catalogue of other extensions' signals, as strings.

An extension is imported only when :func:`load` is called for it.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass

import blinker

from .errors import ConfigurationError, UnknownSignalError, did_you_mean


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Source:
    """Where the signals of an extension are defined."""

    module: str
    """The module that defines them."""
    distribution: str
    """The name of the distribution, for ``pip install``."""
    names: tuple[str, ...]
    """Their names in the module; which of them exist depends on the version."""


CATALOGUE: dict[str, Source] = {
    "authlib": Source(
        module="authlib.integrations.flask_client",
        distribution="Authlib",
        names=("token_update",),
    ),
    "authlib_oauth2": Source(
        module="authlib.integrations.flask_oauth2",
        distribution="Authlib",
        names=("client_authenticated", "token_revoked", "token_authenticated"),
    ),
    "flask_appbuilder": Source(
        module="flask_appbuilder.security.signals",
        distribution="Flask-AppBuilder",
        names=tuple(
            f"{thing}_{verb}"
            for thing in ("user", "group", "role")
            for verb in ("creating", "created", "updating", "updated", "deleting", "deleted")
        ),
    ),
    "flask_caching": Source(
        module="flask_caching.signals",
        distribution="Flask-Caching",
        names=("cache_view_hit", "cache_view_miss", "cache_memoize_hit", "cache_memoize_miss"),
    ),
    "flask_dance": Source(
        module="flask_dance.consumer",
        distribution="Flask-Dance",
        names=("oauth_before_login", "oauth_authorized", "oauth_error"),
    ),
    "flask_login": Source(
        module="flask_login.signals",
        distribution="Flask-Login",
        names=(
            "user_logged_in",
            "user_logged_out",
            "user_loaded_from_cookie",
            "user_loaded_from_request",
            "user_login_confirmed",
            "user_unauthorized",
            "user_needs_refresh",
            "user_accessed",
            "session_protected",
        ),
    ),
    "flask_mail": Source(
        module="flask_mail", distribution="Flask-Mail", names=("email_dispatched",)
    ),
    "flask_principal": Source(
        module="flask_principal",
        distribution="Flask-Principal",
        names=("identity_changed", "identity_loaded"),
    ),
    "flask_security": Source(
        module="flask_security.signals",
        distribution="Flask-Security-Too",
        names=(
            "change_email_confirmed",
            "change_email_instructions_sent",
            "confirm_instructions_sent",
            "login_instructions_sent",
            "password_changed",
            "password_reset",
            "refresh_tracker_created",
            "refresh_tracker_revoked",
            "reset_password_instructions_sent",
            "tf_code_confirmed",
            "tf_disabled",
            "tf_profile_changed",
            "tf_security_token_sent",
            "us_profile_changed",
            "us_security_token_sent",
            "user_authenticated",
            "user_confirmed",
            "user_failed_authn",
            "user_not_registered",
            "user_registered",
            "user_unauthenticated",
            "username_changed",
            "username_recovery_email_sent",
            "wan_deleted",
            "wan_registered",
        ),
    ),
    "flask_sqlalchemy": Source(
        module="flask_sqlalchemy.track_modifications",
        distribution="Flask-SQLAlchemy",
        names=("models_committed", "before_models_committed"),
    ),
    "flask_user": Source(
        module="flask_user.signals",
        distribution="Flask-User",
        names=(
            "user_changed_password",
            "user_changed_username",
            "user_confirmed_email",
            "user_forgot_password",
            "user_logged_in",
            "user_logged_out",
            "user_registered",
            "user_reset_password",
            "user_sent_invitation",
        ),
    ),
    "mongoengine": Source(
        module="mongoengine.signals",
        distribution="mongoengine",
        names=(
            "pre_init",
            "post_init",
            "pre_save",
            "pre_save_post_validation",
            "post_save",
            "pre_delete",
            "post_delete",
            "pre_bulk_insert",
            "post_bulk_insert",
        ),
    ),
}


def load(name: str) -> dict[str, blinker.Signal]:
    """Import an extension's signals.

    :param name: a key of :data:`CATALOGUE`, such as ``"flask_login"``.
    :return: the signals that the installed version has, by name.
    :raises UnknownSignalError: if the extension is not in the catalogue.
    :raises ConfigurationError: if it is not installed.
    """
    source = CATALOGUE.get(name)
    if source is None:
        raise UnknownSignalError(
            f"There is no extension {name!r} in the catalogue.{did_you_mean(name, CATALOGUE)} "
            f"It has {', '.join(sorted(CATALOGUE))}. "
            "Bridge other extensions by their signals: kit.bridge(namespace)."
        )
    try:
        module = importlib.import_module(source.module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{source.module}.".startswith(f"{error.name}."):
            raise
        raise ConfigurationError(
            f"kit.bridge({name!r}) needs {source.module}, which cannot be imported: "
            f"pip install {source.distribution}."
        ) from error
    found = {n: getattr(module, n, None) for n in source.names}
    return {n: signal for n, signal in found.items() if isinstance(signal, blinker.Signal)}
