"""Study: class conditioning and guidance, a course network beside the UNet."""
