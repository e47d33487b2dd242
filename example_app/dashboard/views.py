"""The first page: what there is, and what is left to do."""

from flask import Blueprint, render_template
from flask.typing import ResponseReturnValue
from sqlalchemy import select

from example_app.accounts.services import current_account
from example_app.activity.models import Entry
from example_app.campaigns.models import Campaign
from example_app.extensions import db
from example_app.onboarding.wizard import progress_of

bp = Blueprint("dashboard", __name__)


@bp.get("/")
def index() -> ResponseReturnValue:
    """Show the current account's money, campaigns and open steps."""
    account = current_account()
    campaigns = db.session.scalars(
        select(Campaign).where(Campaign.account_id == account.id).order_by(Campaign.id)
    ).all()
    entries = db.session.scalars(
        select(Entry).where(Entry.account_id == account.id).order_by(Entry.id.desc()).limit(6)
    ).all()
    return render_template(
        "dashboard/index.html",
        account=account,
        campaigns=campaigns,
        impressions=sum(campaign.impressions for campaign in campaigns),
        spent=sum(campaign.spent for campaign in campaigns),
        progress=progress_of(account),
        entries=entries,
    )
