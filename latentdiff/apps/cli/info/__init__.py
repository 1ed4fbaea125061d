"""Commands that show something or write it in another form: info, inspect, models, datasets, plot-schedule,
export, ui.
"""
