// A browser starts no web worker for a page that was opened from a folder (file://). There the site's search
// runs in a hidden frame instead, which answers the same two calls: postMessage and "message" events.
if (location.protocol === "file:") {
  class IFrameWorker extends EventTarget {
    constructor(url) {
      super();
      this.onmessage = null;
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      document.body.appendChild(this.frame);
      const inner = this.frame.contentDocument;
      inner.open();
      inner.write("<!doctype html><html><body></body></html>");
      inner.close();
      const scope = this.frame.contentWindow;
      // In a worker, importScripts waits; in a frame, it is a promise that the search's own code awaits.
      scope.importScripts = (...urls) =>
        urls.reduce((before, next) => before.then(() => IFrameWorker.load(inner, next)), Promise.resolve());
      scope.postMessage = (data) => {
        const message = new MessageEvent("message", { data });
        this.dispatchEvent(message);
        if (this.onmessage) this.onmessage(message);
      };
      this.ready = IFrameWorker.load(inner, new URL(url, document.baseURI).href);
    }

    static load(inner, url) {
      return new Promise((done, failed) => {
        const script = inner.createElement("script");
        script.src = url;
        script.onload = done;
        script.onerror = failed;
        inner.body.appendChild(script);
      });
    }

    postMessage(data) {
      this.ready.then(() => {
        const event = new this.frame.contentWindow.MessageEvent("message", { data });
        this.frame.contentWindow.dispatchEvent(event);
      });
    }

    terminate() {
      this.frame.remove();
    }
  }
  window.IFrameWorker = IFrameWorker;
  window.Worker = IFrameWorker;
}
