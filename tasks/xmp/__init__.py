"""XMP packets: read and written with care. Below all rooms, for several speak of them."""
