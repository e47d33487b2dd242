"""Add a card, pay by card, receive a wire transfer."""

from flask import Blueprint, flash, redirect, render_template, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import select
from wtforms import SelectChoice

from example_app.accounts.services import current_account
from example_app.extensions import db
from example_app.funding.card import add_card, pay_by_card
from example_app.funding.forms import CardForm, CardPaymentForm, WireForm
from example_app.funding.models import Card, Payment
from example_app.funding.provider import CardDeclinedError
from example_app.funding.wire import purpose_for, receive_wire
from example_app.money import format_money

bp = Blueprint("funding", __name__, url_prefix="/funding")


@bp.get("/")
def index() -> ResponseReturnValue:
    """Show the balance, the ways to fund it, and the payments so far."""
    account = current_account()
    cards = db.session.scalars(
        select(Card).where(Card.account_id == account.id).order_by(Card.id)
    ).all()
    payments = db.session.scalars(
        select(Payment)
        .where(Payment.account_id == account.id)
        .order_by(Payment.id.desc())
        .limit(20)
    ).all()
    return render_template("funding/index.html", account=account, cards=cards, payments=payments)


@bp.route("/cards/new", methods=["GET", "POST"])
def new_card() -> ResponseReturnValue:
    """Add a card to the current account."""
    form = CardForm()
    if form.validate_on_submit():
        add_card(current_account(), last4=form.last4.data, holder=form.holder.data)
        db.session.commit()
        flash("Card added.", "success")
        return redirect(url_for("funding.index"))
    return render_template("funding/new_card.html", form=form)


@bp.route("/card", methods=["GET", "POST"])
def card() -> ResponseReturnValue:
    """Pay by card."""
    account = current_account()
    cards = {
        card.id: card
        for card in db.session.scalars(select(Card).where(Card.account_id == account.id))
    }
    if not cards:
        flash("Add a card first.", "info")
        return redirect(url_for("funding.new_card"))
    form = CardPaymentForm()
    form.card.choices = [
        SelectChoice(str(card.id), f"Visa ending in {card.last4}") for card in cards.values()
    ]
    if form.validate_on_submit():
        try:
            payment = pay_by_card(account, cards[form.card.data], form.amount.data)
        except CardDeclinedError as declined:
            form.card.errors = [str(declined)]
        else:
            db.session.commit()
            flash(f"{format_money(payment.amount)} arrived by card.", "success")
            return redirect(url_for("funding.index"))
    return render_template("funding/card.html", form=form)


@bp.route("/wire", methods=["GET", "POST"])
def wire() -> ResponseReturnValue:
    """Show where to send a wire transfer, and let the visitor report one in place of the bank."""
    account = current_account()
    form = WireForm()
    if form.validate_on_submit():
        payment = receive_wire(account, form.amount.data)
        db.session.commit()
        flash(f"{format_money(payment.amount)} arrived by wire transfer.", "success")
        return redirect(url_for("funding.index"))
    return render_template("funding/wire.html", form=form, purpose=purpose_for(account))
