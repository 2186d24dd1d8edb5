// A field's label stands beside it without belonging to it, so a screen reader would hear "Upload file" several times.
() => {
  const name = () => {
    for (const label of document.querySelectorAll('.block > [data-testid="block-label"]')) {
      const text = label.textContent.trim();
      if (label.parentElement.getAttribute('aria-label') !== text) {
        label.parentElement.setAttribute('role', 'group');
        label.parentElement.setAttribute('aria-label', text);
      }
    }
  };
  const changes = { childList: true, subtree: true, attributes: true, attributeFilter: ['aria-label'] };
  new MutationObserver(name).observe(document.body, changes);
  name();
}
