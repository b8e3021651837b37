"""The product's URLs and `/bench/empty`: an empty JSON object for whoever may read."""

from django.urls import path
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from config.urls import urlpatterns as product


class EmptyView(APIView):
    """What any authenticated JSON answer of this server costs at least."""

    def get(self, request: Request) -> Response:
        """{}"""
        return Response({})


urlpatterns = [path("bench/empty", EmptyView.as_view()), *product]
