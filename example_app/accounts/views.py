"""Choose or open an account, and submit its identification."""

from flask import Blueprint, flash, redirect, render_template, session, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import select

from example_app.accounts.forms import AccountForm, IdentificationForm
from example_app.accounts.models import Account, Identification
from example_app.accounts.services import current_account, open_account, submit_identification
from example_app.extensions import db

bp = Blueprint("accounts", __name__, url_prefix="/accounts")


@bp.route("/", methods=["GET", "POST"])
def index() -> ResponseReturnValue:
    """List the accounts, and open a new one."""
    form = AccountForm()
    if form.validate_on_submit():
        account = open_account(form.name.data)
        db.session.commit()
        session["account_id"] = account.id
        flash(f"Opened {account.name} with a welcome credit.", "success")
        return redirect(url_for("onboarding.wizard"))
    accounts = db.session.scalars(select(Account).order_by(Account.id)).all()
    return render_template("accounts/index.html", form=form, accounts=accounts)


@bp.post("/<int:account_id>/choose")
def choose(account_id: int) -> ResponseReturnValue:
    """Act for another account from now on."""
    account = db.get_or_404(Account, account_id)
    session["account_id"] = account.id
    flash(f"You now act for {account.name}.", "success")
    return redirect(url_for("dashboard.index"))


@bp.route("/identification", methods=["GET", "POST"])
def identification() -> ResponseReturnValue:
    """Submit the current account's identification."""
    account = current_account()
    submitted = db.session.get(Identification, account.id)
    form = IdentificationForm(obj=submitted)
    if form.validate_on_submit():
        submit_identification(
            account,
            legal_name=form.legal_name.data,
            country=form.country.data,
            document=form.document.data,
            document_number=form.document_number.data,
        )
        db.session.commit()
        flash("Identification submitted. We will verify it.", "success")
        return redirect(url_for("accounts.identification"))
    return render_template("accounts/identification.html", form=form, submitted=submitted)
