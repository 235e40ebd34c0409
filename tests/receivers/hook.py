"""A web hook: ADDRESS PORT FILE [CERTIFICATE KEY]. Each request becomes a line of JSON in the file."""
import http.server
import json
import socketserver
import ssl
import sys

address, port, path, *tls = sys.argv[1:]


class Hook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        request = {
            "path": self.path,
            "type": self.headers["Content-Type"],
            "authorization": self.headers["Authorization"],
            "body": json.loads(body),
        }
        with open(path, "a") as file:
            file.write(json.dumps(request) + "\n")
        self.send_response(503 if self.path == "/broken" else 204)
        self.end_headers()

    def log_message(self, *_):
        pass


class Server(socketserver.ThreadingTCPServer):
    """Without asking for its own name, as HTTPServer does: a test host has no resolver."""
    allow_reuse_address = True
    daemon_threads = True


server = Server((address, int(port)), Hook)
if tls:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*tls)
    server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
