"""Create a campaign, add creatives, place bids."""

from flask import Blueprint, flash, redirect, render_template, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import select

from example_app.accounts.services import current_account
from example_app.campaigns.forms import BidForm, CampaignForm, CreativeForm
from example_app.campaigns.models import Campaign, Placement
from example_app.campaigns.services import add_creative, create_campaign, place_bid
from example_app.extensions import db

bp = Blueprint("campaigns", __name__, url_prefix="/campaigns")


@bp.get("/")
def index() -> ResponseReturnValue:
    """List the current account's campaigns."""
    campaigns = db.session.scalars(
        select(Campaign).where(Campaign.account_id == current_account().id).order_by(Campaign.id)
    ).all()
    return render_template("campaigns/index.html", campaigns=campaigns)


@bp.route("/new", methods=["GET", "POST"])
def new() -> ResponseReturnValue:
    """Create a campaign."""
    form = CampaignForm()
    if form.validate_on_submit():
        campaign = create_campaign(current_account(), form.name.data)
        db.session.commit()
        flash("Campaign created. Give it a creative and a bid.", "success")
        return redirect(url_for("campaigns.show", campaign_id=campaign.id))
    return render_template("campaigns/new.html", form=form)


@bp.get("/<int:campaign_id>")
def show(campaign_id: int) -> ResponseReturnValue:
    """Show one campaign, with the forms for creatives and bids."""
    return _page(_own(campaign_id), CreativeForm(), BidForm())


@bp.post("/<int:campaign_id>/creatives")
def new_creative(campaign_id: int) -> ResponseReturnValue:
    """Add a creative to a campaign."""
    campaign = _own(campaign_id)
    form = CreativeForm()
    if not form.validate_on_submit():
        return _page(campaign, form, BidForm(formdata=None))
    add_creative(campaign, headline=form.headline.data, text=form.text.data)
    db.session.commit()
    flash("Creative added.", "success")
    return redirect(url_for("campaigns.show", campaign_id=campaign.id))


@bp.post("/<int:campaign_id>/bids")
def new_bid(campaign_id: int) -> ResponseReturnValue:
    """Place a bid for a campaign."""
    campaign = _own(campaign_id)
    form = BidForm()
    if not form.validate_on_submit():
        return _page(campaign, CreativeForm(formdata=None), form)
    place_bid(campaign, Placement(form.placement.data), form.amount.data)
    db.session.commit()
    flash("Bid placed.", "success")
    return redirect(url_for("campaigns.show", campaign_id=campaign.id))


def _own(campaign_id: int) -> Campaign:
    """Return a campaign of the current account, or answer 404."""
    campaign: Campaign = db.first_or_404(
        select(Campaign).where(
            Campaign.id == campaign_id, Campaign.account_id == current_account().id
        )
    )
    return campaign


def _page(campaign: Campaign, creative: CreativeForm, bid: BidForm) -> str:
    return render_template(
        "campaigns/show.html", campaign=campaign, creative_form=creative, bid_form=bid
    )
