"""A publisher's page, where advertisements are shown."""

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from example_app.campaigns.models import Placement
from example_app.extensions import db
from example_app.serving.auction import run_auction
from example_app.serving.forms import ViewsForm
from example_app.serving.models import Impression

bp = Blueprint("serving", __name__, url_prefix="/publisher")


@bp.route("/", methods=["GET", "POST"])
def index() -> ResponseReturnValue:
    """Show the page with the advertisement that won, and hold auctions for new readers."""
    form = ViewsForm()
    if form.validate_on_submit():
        placement, views = Placement(form.placement.data), form.views.data
        impressions = [run_auction(placement) for _ in range(views)]
        served = [impression for impression in impressions if impression is not None]
        db.session.commit()
        if served:
            flash(f"{len(served)} of {views} page views showed an advertisement.", "success")
        else:
            flash("No bid could be paid, so no advertisement was shown.", "info")
        last = served[-1].id if served else None
        return redirect(url_for("serving.index", placement=placement.value, shown=last))
    shown = db.session.get(Impression, request.args.get("shown", 0, type=int))
    form.placement.data = request.args.get("placement", form.placement.data)
    return render_template("serving/index.html", form=form, shown=shown)
