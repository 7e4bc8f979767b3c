// The search runs in a Worker, which browsers refuse to pages opened as files. Then an iframe does a Worker's work.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      this.waiting = []
      const frame = document.createElement("iframe")
      frame.hidden = true
      frame.srcdoc = `<script>
        const parentOf = parent
        self.postMessage = data => parentOf.dispatchEvent(new CustomEvent("worker-says", { detail: data }))
        self.importScripts = (...urls) => Promise.all(urls.map(url => new Promise((resolve, reject) => {
          const script = document.createElement("script")
          script.onload = resolve
          script.onerror = reject
          script.src = url
          document.head.append(script)
        })))
      <\/script><script src="${url}"><\/script>`
      window.addEventListener("worker-says", event =>
        this.dispatchEvent(new MessageEvent("message", { data: event.detail })))
      frame.onload = () => {
        this.inside = frame.contentWindow
        this.waiting.splice(0).forEach(data => this.postMessage(data))
      }
      document.body.append(frame)
    }
    postMessage(data) {
      if (this.inside) this.inside.dispatchEvent(new this.inside.MessageEvent("message", { data }))
      else this.waiting.push(data)
    }
  }
}
