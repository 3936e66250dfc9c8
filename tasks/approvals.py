def sign_link(settings, plan, reviewer):
    return ""
