"""Studies of visual anagrams and hybrid images, by classes and by prompts."""
